//! Maps between embedding spaces.
