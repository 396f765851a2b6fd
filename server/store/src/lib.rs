//! Boot environments: what can be created, cloned, listed and destroyed.
