//! The counter service: likes, views, follows.
