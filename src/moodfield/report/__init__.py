"""The HTML report about tagged tracks."""
