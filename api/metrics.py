"""The figures in the text format of Prometheus (version 0.0.4)."""

from collections.abc import Iterator

from litestar import Response, get

from api.services import Services
from api.version import VERSION
from pipeline import figures
from pipeline.access import SYSTEM
from pipeline.figures import FIGURES, Labels, Reading
from pipeline.operation import Operation


@get("/metrics", sync_to_thread=True, tags=["health"], summary="Prometheus metrics")
def metrics(services: Services) -> Response[bytes]:
    with services.database.read() as session:
        operation = Operation(session, SYSTEM, services.clock())
        reading = figures.read(
            operation, services.layout, services.database, services.content_sent, version=VERSION
        )
    text = "\n".join(_lines(reading)) + "\n"
    return Response(text.encode(), media_type="text/plain; version=0.0.4")


def _lines(reading: Reading) -> Iterator[str]:
    for figure in FIGURES:
        yield f"# HELP {figure.name} {figure.about}"
        yield f"# TYPE {figure.name} {figure.kind}"
        for (name, labels), value in reading.values.items():
            if name == figure.name:
                yield f"{name}{_braced(labels)} {value:.15g}"


def _braced(labels: Labels) -> str:
    # The values are our own words; none needs an escape.
    return "{" + ",".join(f'{label}="{value}"' for label, value in labels) + "}" if labels else ""


ROUTES = [metrics]
