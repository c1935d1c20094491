"""The page that tags music in the browser: `folder` writes it, `static` has what is built from `web/`."""
