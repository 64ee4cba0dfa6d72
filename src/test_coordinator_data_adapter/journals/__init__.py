"""Recorded Chaos Toolkit experiments as scenarios, runs, chaos events and results."""

from test_coordinator_data_adapter.journals.importer import (
    Import,
    JournalImporter,
    Outcome,
    find_journals,
)
from test_coordinator_data_adapter.journals.mapping import (
    Mapping,
    load_mapping,
    parse_mapping,
    shipped_mapping,
)
from test_coordinator_data_adapter.journals.records import JournalRecords, read_journal

__all__ = [
    "Import",
    "JournalImporter",
    "JournalRecords",
    "Mapping",
    "Outcome",
    "find_journals",
    "load_mapping",
    "parse_mapping",
    "read_journal",
    "shipped_mapping",
]
