//! See [`perennial_fuzz::LabelledRecords`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::LabelledRecords);
