"""Getting work in: reading incoming mail safely, telling robots from people."""
