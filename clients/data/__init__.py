"""From a table at the organisation to the columns that all members share."""
