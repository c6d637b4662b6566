from tests.unit.config.fakes import toys

__all__ = ["toys"]
