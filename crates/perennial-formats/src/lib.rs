//! Files of embeddings, labels and relevance judgements.
