from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware


class CompressedPages(GZipMiddleware):
    """Pages alone: an event that waited in a compressor would come late, and small JSON is not worth it."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        is_page = not response.streaming and response.get("Content-Type", "").startswith("text/html")
        return super().process_response(request, response) if is_page else response
