//! The types of pgvector that vectors are read from and written to.

/// A type of pgvector whose vectors are stored in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VectorType {
    /// 32 bits a value.
    Vector,
    /// 16 bits a value.
    HalfVec,
}

impl VectorType {
    /// The type's name in SQL, without its schema.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vector => "vector",
            Self::HalfVec => "halfvec",
        }
    }

    pub(crate) fn value_bytes(self) -> usize {
        match self {
            Self::Vector => 4,
            Self::HalfVec => 2,
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        [Self::Vector, Self::HalfVec]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_types_are_none_of_them() {
        assert_eq!(VectorType::of("halfvec"), Some(VectorType::HalfVec));
        assert_eq!(VectorType::of("sparsevec"), None);
    }
}
