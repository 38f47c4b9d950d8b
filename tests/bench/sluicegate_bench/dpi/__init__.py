"""What looking into traffic costs and finds: a mixed replay through engine and live path, beside others."""
