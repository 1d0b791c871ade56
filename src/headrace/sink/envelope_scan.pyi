from headrace.model.vectors import FloatMatrix

def scan(
    texts: list[bytes],
) -> (
    tuple[list[bytes | None], list[int | bytes], FloatMatrix, list[bytes | None], list[int]] | None
): ...
