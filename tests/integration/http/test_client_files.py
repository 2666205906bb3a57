"""How the browser client is served: small, for ever under its hash, and to any origin."""

import gzip
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from stream_server.web.browser.files import ClientFiles, client_routes
from stream_server.web.browser.minify import bundle

ENTRIES = ["define.js", "stock-stream.js", "hooks.js", "react.js", "stock-indicator.js"]


def client_of(files: ClientFiles) -> httpx.AsyncClient:
    app = Starlette(routes=client_routes())
    app.state.client = files
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


@pytest.fixture
def files() -> ClientFiles:
    return ClientFiles.from_package()


async def test_a_file_under_its_hash_is_kept_for_ever(files: ClientFiles) -> None:
    async with client_of(files) as client:
        answer = await client.get(files.url("define.js"))
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["vary"] == "Accept-Encoding"
        plain = await client.get(files.url("define.js"), headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.text == answer.text


async def test_imports_stay_within_the_hash_and_lead_somewhere(files: ClientFiles) -> None:
    for name, source in files.sources.items():
        if name.endswith(".js"):
            for needed in re.findall(r"from ?['\"](\./[^'\"]+)['\"]", source.decode()):
                assert needed.removeprefix("./") in files.sources, name


@pytest.mark.parametrize("name", ENTRIES)
async def test_the_stable_url_is_revalidated_and_leads_to_the_hash(
    files: ClientFiles, name: str
) -> None:
    async with client_of(files) as client:
        answer = await client.get(f"/client/{name}")
        assert answer.headers["cache-control"] == "public, no-cache"
        assert answer.text == f'export * from "./{files.hash}/{name}";\n'
        again = await client.get(
            f"/client/{name}", headers={"If-None-Match": answer.headers["etag"]}
        )
        assert again.status_code == 304


async def test_a_page_from_another_release_gets_what_there_is_and_keeps_it_not(
    files: ClientFiles,
) -> None:
    async with client_of(files) as client:
        answer = await client.get("/client/0000000000000000/define.js")
        assert answer.content == files.sources["define.js"]
        assert answer.headers["cache-control"] == "public, no-cache"


async def test_what_is_no_file_of_the_client_is_not_found(files: ClientFiles) -> None:
    async with client_of(files) as client:
        for path in ("none.js", "..%2Fapp.py", f"{files.hash}/..%2F..%2Fapp.py", "tabs.js"):
            assert (await client.get(f"/client/{path}")).status_code == 404


def test_another_content_has_another_hash(files: ClientFiles) -> None:
    changed = {**files.sources, "define.js": files.sources["define.js"] + b" "}
    assert ClientFiles(changed).hash != files.hash
    assert ClientFiles(dict(reversed(files.sources.items()))).hash == files.hash


def test_the_client_with_all_elements_is_small(files: ClientFiles) -> None:
    """8.5 KB (8,704 bytes) gzipped at most, in what a page with the elements transfers."""
    needed = ["define.js", "client.js"]
    assert set(re.findall(r"from'\./([^']+)'", files.sources["define.js"].decode())) == {
        "client.js"
    }
    assert b"from" not in re.sub(rb"Array\.from|['\"`].*?['\"`]", b"", files.sources["client.js"])
    sizes = [len(files.gzip_of(name)) for name in needed]
    assert [gzip.decompress(files.gzip_of(n)) for n in needed] == [files.sources[n] for n in needed]
    assert sum(sizes) < 8704


def test_every_module_that_is_packed_is_correct(files: ClientFiles, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no Node here; the browser tests run what is packed")
    for name, source in files.sources.items():
        if name.endswith(".js"):
            module = tmp_path / f"{Path(name).stem}.mjs"
            module.write_bytes(source)
            subprocess.run([node, "--check", module], check=True)


PROGRAM = """
// The first line.
import { far } from './far.js';

/** What it says. @param {string} name */
export const greeting = (name) => `Hello,  ${name}!  // no comment`;

class Counter {
  #count = 1_000;
  kind = 'it\\'s'; // said
  next(step = 1) {
    const before = this.#count++;
    const after = this.#count + +step;
    return { before, after, text: `${this.#count} of ${far}` };
  }
}

export function run(flag) {
  const counter = new Counter();
  if (flag === true) return counter.next(2).after;
  return 'a - b'.replace(/ - b/, '');
}
"""


def test_packing_changes_what_a_program_looks_like_and_not_what_it_does() -> None:
    packed = bundle({"far.js": "export const far = [1, 2];\n", "near.js": PROGRAM}, ["near.js"])
    assert "comment`" in packed, "a template is no comment"
    assert "The first line" not in packed
    assert "Hello,  ${" in packed, "white space in a text is text"
    assert "#count" not in packed
    assert "before" in packed, "properties keep their names"
    assert packed.endswith("export{greeting,run};")
    node = shutil.which("node")
    if node is not None:
        checks = (
            "if(run(true)!==1003||run(false)!=='a'||greeting('you')!=="
            "'Hello,  you!  // no comment')throw new Error('changed')"
        )
        subprocess.run([node, "--input-type=module", "-e", packed + checks], check=True)
