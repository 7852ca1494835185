"""Automation orchestrator: processes, systems and one record of every run.

A process (in ``flows``) says what should happen, in the words of the business. A connector (in
``connectors``) is how one system does it. This package joins them, runs them and records every run;
it knows no vendor and no process by name.
"""
