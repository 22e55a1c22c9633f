"""A user's own network, by the explicit name of its class: ``module:Class``."""

from importlib import import_module

from torch import nn

from ..errors import ConfigError


def own_network(path: str) -> type[nn.Module]:
    """The class that ``path`` ("package.module:Class") names; only classes of ``torch.nn.Module`` are taken.

    The module is imported as ``import`` would: from what is installed, or lies on PYTHONPATH.

    Raises:
        ConfigError: no such module or class, or no class of ``torch.nn.Module``.
    """
    module_name, _, name = path.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), name)):
        raise ConfigError(f"network {path!r}: a network of your own is named as module:Class, such as mynets:MyUNet.")
    try:
        module = import_module(module_name)
    except Exception as error:  # a user's module may fail in any way while it is imported
        raise ConfigError(
            f"network {path!r}: module {module_name} cannot be imported ({type(error).__name__}: {error}). "
            "Correct the name, install it, or put its folder on PYTHONPATH."
        ) from error
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        known = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, nn.Module)]
        what = "does not exist" if found is None else "is no class of torch.nn.Module"
        raise ConfigError(
            f"network {path!r}: {name} {what}; module {module_name} has {', '.join(sorted(known)) or 'none'}."
        )
    return found
