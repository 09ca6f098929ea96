//! See [`perennial_fuzz::RelevanceJudgements`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::RelevanceJudgements);
