//! See [`perennial_fuzz::ImageLists`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::ImageLists);
