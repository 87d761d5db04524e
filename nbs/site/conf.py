"Sphinx's settings for `make site`: one theme, stored outputs, nothing from another address."
from importlib.util import find_spec
from pathlib import Path

project = html_title = "corea"
extensions = ["myst_nb"]
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
myst_enable_extensions = ["attrs_block", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_static_path = [str(Path(__file__).with_name(name)) for name in ("style.css", "demo.js")]
html_css_files = ["style.css"]
html_copy_source = html_show_sourcelink = html_use_index = html_show_copyright = False
# MathJax in one file, its fonts in it; the menu would load more, from elsewhere
html_static_path += [str(Path(folder)/"static/mathjax/es5/tex-svg-full.js") for folder in find_spec("mathjax").submodule_search_locations]
mathjax_path = "tex-svg-full.js"
mathjax3_config = {"options": {"enableMenu": False}}
