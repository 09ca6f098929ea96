//! See [`perennial_fuzz::Onnx`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::Onnx);
