//! One conversation: event log, workspace, resume, export to a notebook.
