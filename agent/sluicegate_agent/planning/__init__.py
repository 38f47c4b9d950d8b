"""From configuration, network and health to the wanted tables, and the operations that lead there. Pure."""
