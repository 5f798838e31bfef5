//! Every provider against the servers that it is for: one table of what must hold, and what each alone can do wrong.

mod bench;
mod beside;
mod followers;
mod keeper;
mod refused;
mod secondaries;
mod table;
mod unbound;
