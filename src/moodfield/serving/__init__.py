"""The HTTP service: an API that tags uploads and shows a library, and the page in the browser."""
