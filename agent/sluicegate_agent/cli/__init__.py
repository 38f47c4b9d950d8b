"""The command ``sluicegate``: one module per command, imported when it is used."""
