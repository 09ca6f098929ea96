//! Size and normalisation of an imported network's input: from the command line or a file beside the checkpoint, never guessed.

use perennial_train::import::{Description, Found};

use super::whole_number::within;
use crate::exit_status::usage;

/// The largest standard deviation that fractions between 0 and 1 are ever divided by.
const MAX_STD: f32 = 1.0;

/// Well-known channel means and standard deviations, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Normalization {
    /// 0.485,0.456,0.406 and 0.229,0.224,0.225: torchvision and timm
    Imagenet,
    /// 0.4914,0.4822,0.4465 and 0.247,0.2435,0.2616
    Cifar10,
    /// 0.5071,0.4867,0.4408 and 0.2675,0.2565,0.2761
    Cifar100,
    /// 0.5 and 0.5: pixels from -1 to 1
    Half,
    /// 0 and 1: pixels from 0 to 1
    None,
}

impl Normalization {
    fn name(self) -> &'static str {
        match self {
            Self::Imagenet => "imagenet",
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::Half => "half",
            Self::None => "none",
        }
    }

    /// Means and standard deviations.
    fn values(self) -> [[f32; 3]; 2] {
        match self {
            Self::Imagenet => [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]],
            Self::Cifar10 => [[0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]],
            Self::Cifar100 => [[0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]],
            Self::Half => [[0.5; 3], [0.5; 3]],
            Self::None => [[0.0; 3], [1.0; 3]],
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct InputArguments {
    /// Side of the square input images, in pixels
    #[arg(long, value_name = "PIXELS", value_parser = within::<8, 1024>)]
    size: Option<usize>,
    /// Channel means of the input, for pixel values from 0 to 1
    #[arg(
        long,
        value_name = "R,G,B",
        num_args = 1..=3,
        allow_negative_numbers = true,
        requires = "std"
    )]
    mean: Option<Vec<String>>,
    /// Channel standard deviations of the input, for pixel values from 0 to 1
    #[arg(
        long,
        value_name = "R,G,B",
        num_args = 1..=3,
        allow_negative_numbers = true,
        requires = "mean"
    )]
    std: Option<Vec<String>>,
    /// Well-known means and standard deviations by name, instead of --mean and --std
    #[arg(long, value_enum, value_name = "NAME", conflicts_with_all = ["mean", "std"])]
    normalization: Option<Normalization>,
}

impl InputArguments {
    /// The side that was given.
    pub fn size(&self) -> Option<usize> {
        self.size
    }
}

/// Size and normalisation of an input, each with its source.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    pub size: Found<usize>,
    pub mean: Found<[f32; 3]>,
    pub std: Found<[f32; 3]>,
}

impl InputArguments {
    /// Checks the options, and returns a file name that the list of numbers has consumed: `--mean 0.4,0.5,0.4 FILE`.
    pub fn check(&self) -> anyhow::Result<Option<String>> {
        let mut swallowed = Vec::new();
        for (option, values) in [("--mean", &self.mean), ("--std", &self.std)] {
            let Some(values) = values else { continue };
            let (numbers, rest) = split(values);
            let numbers = three(option, numbers)?;
            match option {
                "--mean" => check_mean(option, &numbers)?,
                _ => check_std(option, &numbers)?,
            }
            swallowed.extend_from_slice(rest);
        }
        match &swallowed[..] {
            [] | [_] => Ok(swallowed.pop()),
            more => Err(usage(format!(
                "{}: only one checkpoint file can be imported",
                more.join(" ")
            ))),
        }
    }

    /// The values of the options, or else of the description file; the error lists the missing options.
    pub fn resolve(&self, description: &Description) -> anyhow::Result<Result<Input, Vec<String>>> {
        let given = |value| Found {
            value,
            source: "given".to_owned(),
        };
        let size = self.size.map(given).or_else(|| description.size.clone());
        if let Some(Found { value, source }) = &size
            && !(8..=1024).contains(value)
        {
            return Err(usage(format!(
                "{source} gives an image side of {value} pixels; 8 to 1024 are supported: pass --size"
            )));
        }
        let named = self.normalization.map(|normalization| {
            let source = format!("given as {}", normalization.name());
            normalization.values().map(|value| Found {
                value,
                source: source.clone(),
            })
        });
        let [named_mean, named_std] = named.map_or([None, None], |both| both.map(Some));
        let mean = self.numbers("--mean", &self.mean)?.or(named_mean);
        let std = self.numbers("--std", &self.std)?.or(named_std);
        let mean = mean.map_or_else(
            || read(&description.mean, check_mean, "mean"),
            |found| Ok(Some(found)),
        )?;
        let std = std.map_or_else(
            || read(&description.std, check_std, "std"),
            |found| Ok(Some(found)),
        )?;
        Ok(match (size, mean, std) {
            (Some(size), Some(mean), Some(std)) => Ok(Input { size, mean, std }),
            (size, mean, std) => {
                let mut missing = Vec::new();
                if size.is_none() {
                    missing.push("--size PIXELS".to_owned());
                }
                if mean.is_none() || std.is_none() {
                    missing.push(
                        "--normalization imagenet|cifar10|cifar100|half|none (or --mean R,G,B and --std R,G,B)".to_owned(),
                    );
                }
                Err(missing)
            }
        })
    }

    fn numbers(
        &self,
        option: &str,
        values: &Option<Vec<String>>,
    ) -> anyhow::Result<Option<Found<[f32; 3]>>> {
        let Some(values) = values else {
            return Ok(None);
        };
        Ok(Some(Found {
            value: three(option, split(values).0)?,
            source: "given".to_owned(),
        }))
    }
}

/// Splits the numbers from the arguments behind them. Without commas, the whole list is numbers.
fn split(values: &[String]) -> (&[String], &[String]) {
    let with_commas = values.first().is_some_and(|first| first.contains(','));
    values.split_at(if with_commas { 1 } else { values.len() })
}

/// Three numbers, with commas or as three arguments.
fn three(option: &str, values: &[String]) -> anyhow::Result<[f32; 3]> {
    let text = values.join(",");
    let numbers: Result<Vec<f32>, _> = text
        .split(',')
        .map(|number| number.trim().parse::<f32>())
        .collect();
    match numbers.as_deref() {
        Ok(&[red, green, blue]) => Ok([red, green, blue]),
        Ok(numbers) => Err(usage(format!(
            "{option} {text}: {} numbers, and 3 are needed, such as {option} 0.485,0.456,0.406",
            numbers.len()
        ))),
        Err(_) => Err(usage(format!(
            "{option} {text}: not three numbers, such as {option} 0.485,0.456,0.406"
        ))),
    }
}

fn check_mean(name: &str, mean: &[f32; 3]) -> anyhow::Result<()> {
    for value in mean {
        if *value > 1.0 && *value <= 255.0 {
            return Err(usage(format!(
                "{name}: {value} is above 1; means are for pixel values from 0 to 1; divide means of values from 0 to 255 by 255"
            )));
        }
        if !(0.0..=1.0).contains(value) {
            return Err(usage(format!(
                "{name}: {value} is not between 0 and 1; means are for pixel values from 0 to 1"
            )));
        }
    }
    Ok(())
}

fn check_std(name: &str, std: &[f32; 3]) -> anyhow::Result<()> {
    for value in std {
        if *value > MAX_STD && *value <= 255.0 {
            return Err(usage(format!(
                "{name}: {value} is above 1; standard deviations are for pixel values from 0 to 1; divide those of values from 0 to 255 by 255"
            )));
        }
        if !(value.is_normal() && *value > 0.0 && *value <= MAX_STD) {
            return Err(usage(format!(
                "{name}: {value} is not above 0 and at most 1; pixels are divided by it"
            )));
        }
    }
    Ok(())
}

/// A value that was read beside the file, checked as if it had been given.
fn read(
    found: &Option<Found<Vec<f32>>>,
    check: fn(&str, &[f32; 3]) -> anyhow::Result<()>,
    key: &str,
) -> anyhow::Result<Option<Found<[f32; 3]>>> {
    let Some(Found { value, source }) = found else {
        return Ok(None);
    };
    let &[red, green, blue] = &value[..] else {
        return Err(usage(format!(
            "{source} has {} values for {key}, and 3 are needed: pass --mean and --std",
            value.len()
        )));
    };
    let value = [red, green, blue];
    check(&format!("{key} in {source}"), &value)?;
    Ok(Some(Found {
        value,
        source: source.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(mean: &[&str], std: &[&str]) -> InputArguments {
        let texts = |values: &[&str]| Some(values.iter().map(|v| (*v).to_owned()).collect());
        InputArguments {
            size: Some(32),
            mean: texts(mean),
            std: texts(std),
            normalization: None,
        }
    }

    #[test]
    fn commas_and_spaces_mean_the_same() {
        for (mean, std, file) in [
            (&["0.4,0.5,0.25"][..], &["0.1,0.2,0.5"][..], None),
            (&["0.4", "0.5", "0.25"], &["0.1", "0.2", "0.5"], None),
            (&["0.4, 0.5, 0.25"], &["0.1,0.2,0.5", "a.pt"], Some("a.pt")),
            (&["0.4,0.5,0.25", "0.5"], &["0.1,0.2,0.5"], Some("0.5")),
        ] {
            let arguments = arguments(mean, std);
            assert_eq!(arguments.check().unwrap().as_deref(), file);
            let input = arguments.resolve(&Description::default()).unwrap().unwrap();
            assert_eq!(input.mean.value, [0.4, 0.5, 0.25]);
            assert_eq!(input.std.value, [0.1, 0.2, 0.5]);
            assert_eq!(input.mean.source, "given");
        }
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        let refused =
            |mean: &[&str], std: &[&str]| arguments(mean, std).check().unwrap_err().to_string();
        let (mean, std) = (&["0.5,0.5,0.5"][..], &["0.5,0.5,0.5"][..]);
        for (message, part) in [
            (
                refused(&["123.7,116.3,103.5"], std),
                "--mean: 123.7 is above 1",
            ),
            (refused(&["0.5,-0.1,0.5"], std), "--mean: -0.1 is not"),
            (refused(&["0.5,nan,0.5"], std), "--mean: NaN is not"),
            (refused(mean, &["58.4,57.1,57.4"]), "by 255"),
            (refused(mean, &["0.2,0,0.2"]), "--std: 0 is not above 0"),
            (refused(mean, &["0.2,inf,0.2"]), "--std: inf"),
            (refused(mean, &["0.2,0.2"]), "--std 0.2,0.2: 2 numbers"),
            (refused(&["a,b,c"], std), "not three numbers"),
            (
                refused(&["0.5,0.5,0.5", "x", "y"], std),
                "x y: only one checkpoint file",
            ),
        ] {
            assert!(message.contains(part), "{message} | {part}");
        }
    }

    #[test]
    fn what_was_given_goes_before_what_was_read_and_what_is_missing_is_listed() {
        let found = |value: f32| {
            Some(Found {
                value: vec![value; 3],
                source: "config.json".to_owned(),
            })
        };
        let mut description = Description {
            mean: found(0.25),
            std: found(0.5),
            ..Description::default()
        };
        let nothing = || InputArguments {
            size: None,
            mean: None,
            std: None,
            normalization: None,
        };
        let missing = nothing().resolve(&description).unwrap().unwrap_err();
        assert_eq!(missing, ["--size PIXELS"]);
        let named = InputArguments {
            size: Some(64),
            normalization: Some(Normalization::Half),
            ..nothing()
        };
        let input = named.resolve(&description).unwrap().unwrap();
        assert_eq!(
            (input.mean.value, input.mean.source.as_str()),
            ([0.5; 3], "given as half")
        );
        let missing = nothing().resolve(&Description::default()).unwrap();
        assert_eq!(missing.unwrap_err().len(), 2);
        description.mean = found(128.0);
        let error = nothing().resolve(&description).unwrap_err().to_string();
        assert!(error.contains("mean in config.json: 128"), "{error}");
    }
}
