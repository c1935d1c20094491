"""An HTML report of taggings."""
