from tests.support.examples import EXAMPLES


def test_each_example_is_in_the_list_and_says_what_it_shows_and_how_it_is_run() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    folders = [each for each in EXAMPLES.iterdir() if each.is_dir()]
    assert folders
    for folder in folders:
        assert f"[{folder.name}]({folder.name})" in listed
        readme = (folder / "README.md").read_text()
        assert "\n    " in readme, f"{folder.name} shows no command"
