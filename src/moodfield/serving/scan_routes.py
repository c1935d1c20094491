"""Routes that scan folders into the library."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from moodfield.serving import schemas, service
from moodfield.serving.schemas import ScanRequest
from moodfield.serving.service import Current

router = APIRouter(prefix="/v1/scans", tags=["scans"])

Number = Annotated[int, Path(ge=1, lt=2**63)]


@router.post("", status_code=202, responses=service.documented(schemas.ScanAnswer, 409, 422, status=202))
def start_scan(request: Request, current: Current, body: ScanRequest | None = None) -> Response:
    """Start a scan of a folder of the server, or of all folders of earlier scans."""
    return service.answer(request, current.scans.start(body.path if body else None).to_dict(), status=202)


@router.get("", responses=service.documented(schemas.ScansAnswer))
def list_scans(request: Request, current: Current) -> Response:
    """The last scans, the newest first."""
    return service.answer(request, {"scans": [scan.to_dict() for scan in current.scans.all()]})


@router.get("/{number}", responses=service.documented(schemas.ScanAnswer, 404, 422))
def get_scan(request: Request, current: Current, number: Number) -> Response:
    """A scan, and how far it is."""
    return service.answer(request, current.scans.get(number).to_dict())


@router.delete("/{number}", responses=service.documented(schemas.ScanAnswer, 404, 422))
def cancel_scan(request: Request, current: Current, number: Number) -> Response:
    """Cancel a scan; tracks that it has tagged are kept."""
    return service.answer(request, current.scans.cancel(number).to_dict())
