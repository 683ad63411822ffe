"""emojax: image-emotion classifiers in JAX, from a folder of faces to a trained and honestly evaluated model."""

TYPE_CHECKING = False  # type checkers take it as true whatever stands here; `typing` would take longer than the rest
if TYPE_CHECKING:
    from emojax.predict import load

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str):
    # `import emojax` must stay cheap (no JAX): the public function is imported when it is first used.
    if name == "load":
        from emojax.predict import load

        return load
    raise AttributeError(f"module 'emojax' has no attribute {name!r}")
