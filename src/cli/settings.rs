//! The flags that set configuration keys.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::config::{FlagSetting, LogFormat, Sources};

/// Flags of every command that reads the configuration.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Settings")]
pub(super) struct SettingFlags {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE", env = "MILLPOND_CONFIG")]
    config: Option<PathBuf>,
    /// Keep data in this directory [default: ./millpond-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Serve STOMP here [default: *:61613]
    #[arg(long, value_name = "ADDR|off")]
    stomp: Option<String>,
    /// Serve AMQP here [default: *:5672; not served yet]
    #[arg(long, value_name = "ADDR|off")]
    amqp: Option<String>,
    /// Serve HTTP (health) here [default: *:15672]
    #[arg(long, value_name = "ADDR|off")]
    http: Option<String>,
    /// Serve STOMP over WebSocket here [default: *:15674; not served yet]
    #[arg(long, value_name = "ADDR|off")]
    web_stomp: Option<String>,
    /// Log lines for people or programs [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Start although confirmed messages are missing from the data directory
    #[arg(long)]
    accept_data_loss: bool,
    /// Set any key, such as --set limits.headers=200; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.to_owned())),
        None => Err("write it as SECTION.KEY=VALUE, such as limits.headers=200".to_owned()),
    }
}

impl SettingFlags {
    /// These flags, written before the command, together with those after it, which win.
    pub(super) fn over(mut self, inner: Self) -> Self {
        self.set.extend(inner.set);
        Self {
            config: inner.config.or(self.config),
            data_dir: inner.data_dir.or(self.data_dir),
            stomp: inner.stomp.or(self.stomp),
            amqp: inner.amqp.or(self.amqp),
            http: inner.http.or(self.http),
            web_stomp: inner.web_stomp.or(self.web_stomp),
            log_format: inner.log_format.or(self.log_format),
            accept_data_loss: inner.accept_data_loss || self.accept_data_loss,
            set: self.set,
        }
    }

    /// Refuses flags before a command that does not read the configuration; the environment is nobody's mistake.
    ///
    /// # Errors
    /// When there is such a flag.
    pub(super) fn refuse(&self) -> Result<(), Failure> {
        match self.flags().first() {
            Some(setting) => Err(Failure::usage(format!(
                "this command talks to a running broker and has no use for {}",
                setting.flag
            ))),
            None => Ok(()),
        }
    }

    /// Everything the configuration is read from. A flag of its own wins over `--set`.
    pub(super) fn sources(&self) -> Sources {
        Sources {
            file: self.config.clone(),
            environment: std::env::vars_os().collect(),
            flags: self.flags(),
        }
    }

    fn flags(&self) -> Vec<FlagSetting> {
        let log_format = self.log_format.map(|format| match format {
            LogFormat::Text => "text".to_owned(),
            LogFormat::Json => "json".to_owned(),
        });
        let own = [
            ("--data-dir", "storage.data_dir", self.data_dir.clone()),
            ("--stomp", "listen.stomp", self.stomp.clone()),
            ("--amqp", "listen.amqp", self.amqp.clone()),
            ("--http", "listen.http", self.http.clone()),
            ("--web-stomp", "listen.web_stomp", self.web_stomp.clone()),
            ("--log-format", "log.format", log_format),
            (
                "--accept-data-loss",
                "storage.accept_data_loss",
                self.accept_data_loss.then(|| "true".to_owned()),
            ),
        ];
        let set = self.set.iter().map(|(key, value)| FlagSetting {
            flag: "--set",
            key: key.clone(),
            value: value.clone(),
        });
        let own = own.into_iter().filter_map(|(flag, key, value)| {
            Some(FlagSetting {
                flag,
                key: key.to_owned(),
                value: value?,
            })
        });
        set.chain(own).collect()
    }
}
