"""Stored runs as files for people and for other tools."""

from test_coordinator_data_adapter.reports.ctrf import write_ctrf
from test_coordinator_data_adapter.reports.jsonl import write_jsonl
from test_coordinator_data_adapter.reports.junit import write_junit
from test_coordinator_data_adapter.reports.run_record import RunRecord, RunRecords

__all__ = ["RunRecord", "RunRecords", "write_ctrf", "write_jsonl", "write_junit"]
