//! The folder of a child: its password and its configuration files, readable by the owner only.
//!
//! ```text
//! <data-dir>/clickhouse/     mode 700
//!   password                 mode 600, made once: 32 random bytes in hex
//!   config.xml, users.xml    mode 600, written at every start
//!   clickhouse.log           the server's log, rotated by itself
//!   clickhouse.stderr.log    the last words of the last start
//!   data/                    ClickHouse's own
//! ```
//!
//! The child's own session runs as `default` without a password, and so may anybody on this machine who finds the
//! port. So `default` may do nothing but keep the listener alive; the work is done as [`USER`], with the password.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::ServerConfig;
use crate::SinkError;

/// The user that does the work.
pub const USER: &str = "streamgauge";

/// The files of a child.
pub(super) struct Folder {
    pub(super) config: PathBuf,
    pub(super) data: PathBuf,
    pub(super) log: PathBuf,
    pub(super) errors: PathBuf,
    pub(super) password: String,
    users: PathBuf,
}

impl Folder {
    /// Opens the folder, or makes it at first start.
    pub(super) fn open(data_dir: &Path) -> Result<Self, SinkError> {
        let root = data_dir.join("clickhouse");
        let data = root.join("data");
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&data).map_err(SinkError::io(format!("make the folder {}", data.display())))?;
        let absolute = fs::canonicalize(&root).map_err(SinkError::io(format!("find the folder {}", root.display())))?;
        let password = read_or_make_password(&absolute.join("password"))?;
        Ok(Folder {
            config: absolute.join("config.xml"),
            users: absolute.join("users.xml"),
            data: absolute.join("data"),
            log: absolute.join("clickhouse.log"),
            errors: absolute.join("clickhouse.stderr.log"),
            password,
        })
    }

    /// Writes the configuration for the next start.
    pub(super) fn configure(&self, config: &ServerConfig, port: u16) -> Result<(), SinkError> {
        write_private(&self.users, &self.users_xml())?;
        write_private(&self.config, &self.config_xml(config, port))
    }

    /// Pools are small. Merges and mutations get half of the cores, so that they never hold up the queries of a page on
    /// all of them.
    fn config_xml(&self, config: &ServerConfig, port: u16) -> String {
        let cores = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16);
        let merges = cores / 2;
        let memory = config.memory_bytes_max;
        let path = |path: &Path| xml_text(&path.to_string_lossy());
        format!(
            r#"<clickhouse>
    <logger>
        <level>warning</level>
        <log>{log}</log>
        <size>16M</size>
        <count>2</count>
    </logger>
    <path>{data}/</path>
    <tmp_path>{data}/tmp/</tmp_path>
    <listen_host>127.0.0.1</listen_host>
    <http_port>{port}</http_port>
    <users_config>{users}</users_config>
    <user_directories><users_xml><path>{users}</path></users_xml></user_directories>
    <max_server_memory_usage>{memory}</max_server_memory_usage>
    <mark_cache_size>{mark_cache}</mark_cache_size>
    <uncompressed_cache_size>0</uncompressed_cache_size>
    <max_concurrent_queries>100</max_concurrent_queries>
    <background_pool_size>{merges}</background_pool_size>
    <background_merges_mutations_concurrency_ratio>1</background_merges_mutations_concurrency_ratio>
    <background_schedule_pool_size>{cores}</background_schedule_pool_size>
    <background_common_pool_size>{cores}</background_common_pool_size>
    <background_move_pool_size>1</background_move_pool_size>
    <background_fetches_pool_size>1</background_fetches_pool_size>
    <asynchronous_metrics_update_period_s>60</asynchronous_metrics_update_period_s>
    <asynchronous_heavy_metrics_update_period_s>600</asynchronous_heavy_metrics_update_period_s>
    <merge_tree>
        <number_of_free_entries_in_pool_to_execute_mutation>1</number_of_free_entries_in_pool_to_execute_mutation>
        <number_of_free_entries_in_pool_to_lower_max_size_of_merge>1</number_of_free_entries_in_pool_to_lower_max_size_of_merge>
        <number_of_free_entries_in_pool_to_execute_optimize_entire_partition>1</number_of_free_entries_in_pool_to_execute_optimize_entire_partition>
    </merge_tree>
</clickhouse>
"#,
            log = path(&self.log),
            data = path(&self.data),
            users = path(&self.users),
            mark_cache = (memory / 16).min(512 << 20),
        )
    }

    fn users_xml(&self) -> String {
        let digest = hex::encode(Sha256::digest(self.password.as_bytes()));
        format!(
            r#"<clickhouse>
    <profiles><default><log_queries>0</log_queries></default></profiles>
    <quotas><default/></quotas>
    <users>
        <default>
            <password></password>
            <networks><ip>127.0.0.1</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
            <grants>
                <query>GRANT SYSTEM LISTEN ON *.*</query>
                <query>GRANT SELECT ON system.numbers</query>
                <query>GRANT SELECT ON system.one</query>
            </grants>
        </default>
        <{USER}>
            <password_sha256_hex>{digest}</password_sha256_hex>
            <networks><ip>127.0.0.1</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
            <access_management>1</access_management>
        </{USER}>
    </users>
</clickhouse>
"#
        )
    }
}

fn read_or_make_password(path: &Path) -> Result<String, SinkError> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().len() >= 32 => Ok(text.trim().to_owned()),
        Ok(_) => make_password(path), // cut short by a crash at the very first start
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make_password(path),
        Err(error) => Err(SinkError::io(format!("read the password in {}", path.display()))(error)),
    }
}

fn make_password(path: &Path) -> Result<String, SinkError> {
    let password = hex::encode(rand::random::<[u8; 32]>());
    write_private(path, &password)?;
    Ok(password)
}

/// Writes a file that only its owner may read, in one step.
fn write_private(path: &Path, text: &str) -> Result<(), SinkError> {
    let next = path.with_extension("next");
    let write = || {
        let _ = fs::remove_file(&next); // so that the mode below is that of a new file
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&next, path)
    };
    write().map_err(SinkError::io(format!("write {}", path.display())))
}

fn xml_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
