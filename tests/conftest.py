"""For every test: a case whose value is bytes is named by its place, since made archives and keys differ in each process."""


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    return argname if isinstance(val, bytes) else None
