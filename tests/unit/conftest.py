"""Its folder becomes importable, so that tests of all subjects share what lies beside it, such as ``virtual_time``."""
