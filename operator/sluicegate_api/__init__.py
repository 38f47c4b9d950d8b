"""Resource models of Sluicegate, their CRDs, and the maths of selection. Pure: imports no I/O."""
