//! Bytes against what signal-cli writes: lines, answers, envelopes.
