"""Projects of the registry, each trained once a session and shared by the tests of system/."""

from typing import Any

import pytest

from tests.helpers.runs import begin
from tests.helpers.warm import Warm
from tests.projects.registry import Project, Trained, all_projects


def marked(name: str, project: Project) -> Any:
    marks = [pytest.mark.skip(reason=project.skip)] if project.skip else []
    return pytest.param(name, marks=[*marks, pytest.mark.slow] if project.slow else marks)


@pytest.fixture(scope="session", params=[marked(*item) for item in all_projects().items()])
def trained(
    request: pytest.FixtureRequest, warm: Warm, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """Train a project of the registry."""
    project, folder = all_projects()[request.param], tmp_path_factory.mktemp(request.param)
    (folder / "data").mkdir()
    if project.make_data is not None:
        project.make_data(folder / "data")
    one = Trained(request.param, project, folder / "run", folder / "data")
    code = begin(warm, one.another(one.folder), one.data).wait()
    assert code == 0, (one.folder / "printed.txt").read_text()
    return one
