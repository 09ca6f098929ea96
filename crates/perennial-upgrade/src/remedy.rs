//! The command that helps where a measurement is missing.

use std::fmt;

/// A command of the command line. In full it names the registry that it needs; where that lies on this machine is not for everybody who asks a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    command: Box<str>,
    /// As the command takes it; `None` for the registry that commands use unless told otherwise.
    registry: Option<Box<str>>,
}

impl Remedy {
    /// A command without its registry, and that, quoted where need be.
    pub fn new(command: String, registry: Option<String>) -> Self {
        Self {
            command: command.into(),
            registry: registry.map(String::into),
        }
    }

    /// The command without its registry: for those who may have another path to it, or none.
    pub fn public(&self) -> &str {
        &self.command
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.command)?;
        match &self.registry {
            Some(registry) => write!(f, " --registry {registry}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_full_command_names_the_registry() {
        let command = "perennial evaluate --versions a b";
        let usual = Remedy::new(command.to_owned(), None);
        assert_eq!(
            (usual.public(), usual.to_string().as_str()),
            (command, command)
        );
        let other = Remedy::new(command.to_owned(), Some("'/srv/the registry'".to_owned()));
        assert_eq!(other.public(), command);
        assert_eq!(
            other.to_string(),
            "perennial evaluate --versions a b --registry '/srv/the registry'"
        );
    }
}
