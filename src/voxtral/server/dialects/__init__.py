"""What clients speak. Each module is one dialect: a thin file over SpeechOrder and SpeechResponse.

The application finds the modules by listing this package and asks each for

    routes(service: SpeechService) -> APIRouter
    PUBLIC_PATHS: paths that need no API key (optional)
    listening(service, announce) -> AbstractAsyncContextManager: where else it is heard while the server runs (optional)
    error_body(request, error) -> dict | None: the body of an error, where its client asks (optional)
    claims(service: SpeechService) -> Mapping[str, Claim]: what it does at addresses of others (optional)

so that adding a dialect touches no other file. No dialect imports another.
"""
