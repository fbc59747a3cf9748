//! Entries as Consul writes them, read into what they mean one by one. Every key that says something and is not known is told by its
//! path, so that nothing is passed over in silence; what is wrong is a problem, and then the entry does not count.

mod balancing;
mod fields;
mod resolver;
mod router;

pub(super) use self::fields::Finds;
pub(super) use self::resolver::{Aim, Resolver, Subset, resolver};
pub(super) use self::router::{Destination, router, splitter};
