"""Builds these pages into a site with search: `make docs`."""  # noqa: INP001 - no package, Sphinx reads it

project = "Lamplighter"
author = "the Lamplighter maintainers"
copyright = author  # noqa: A001 - Sphinx's name for it
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# Pages also link to files of the checkout, for readers of the repository; those are no part of the site.
suppress_warnings = ["myst.xref_missing", "myst.header", "misc.highlighting_failure"]
html_theme = "furo"
html_title = "Lamplighter"
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
