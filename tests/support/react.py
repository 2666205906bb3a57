"""React from npm's packages, as modules that a page can import without a build step."""

import re

from tests.support.npm import MODULES, installed

_PACKAGES = {
    "react": ("react/cjs/react.production.js", []),
    "scheduler": ("scheduler/cjs/scheduler.production.js", []),
    "react-dom": ("react-dom/cjs/react-dom.production.js", ["react"]),
    "react-dom-client": (
        "react-dom/cjs/react-dom-client.production.js",
        ["react", "react-dom", "scheduler"],
    ),
}


def react_modules() -> dict[str, str]:
    """A script a package, by its name; they import each other."""
    installed("react")
    return {f"{name}.js": _module(path, needed) for name, (path, needed) in _PACKAGES.items()}


def _module(path: str, needed: list[str]) -> str:
    source = (MODULES / path).read_text()
    names = sorted(set(re.findall(r"^exports\.(\w+) =", source, re.MULTILINE)))
    imports = "".join(f'import * as m{i} from "./{name}.js";\n' for i, name in enumerate(needed))
    table = ", ".join(f'"{name}": m{i}' for i, name in enumerate(needed))
    return (
        f"{imports}const module = {{exports: {{}}}};\n"
        f"(function (module, exports, require) {{\n{source}\n}})"
        f"(module, module.exports, (name) => ({{{table}}})[name]);\n"
        f"export const {{{', '.join(names)}}} = module.exports;\n"
    )
