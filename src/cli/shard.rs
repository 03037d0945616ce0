//! Which share of a package this process is to bring: said as `K/N`, or found out from the
//! scheduler that started it.

use std::ffi::OsString;

use crate::model::shard::Shard;

/// Reads `K/N`, or `auto`: what the scheduler's variables say.
///
/// # Errors
/// It is neither, or no scheduler says it; the text says what to give.
pub fn shard(text: &str, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Shard, String> {
    if text != "auto" {
        return Shard::parse(text);
    }
    let env = Variables(env);
    if env.has("SLURM_ARRAY_TASK_ID") {
        return slurm(&env);
    }
    for (index, count) in [
        ("JOB_COMPLETION_INDEX", "HAUL_SHARDS"),
        ("NOMAD_ALLOC_INDEX", "NOMAD_GROUP_COUNT"),
    ] {
        if env.has(index) {
            return from_0(index, env.number(index)?, env.number(count)?);
        }
    }
    Err(
        "auto: this process is no task of a Slurm array (SLURM_ARRAY_TASK_ID), no pod of an \
         Indexed Job of Kubernetes (JOB_COMPLETION_INDEX) and no allocation of Nomad \
         (NOMAD_ALLOC_INDEX); give K/N instead"
            .into(),
    )
}

/// The tasks of a job array have the numbers that the user gave them: sbatch(1), `--array`.
fn slurm(env: &Variables<'_>) -> Result<Shard, String> {
    let (id, count) = (
        env.number("SLURM_ARRAY_TASK_ID")?,
        env.number("SLURM_ARRAY_TASK_COUNT")?,
    );
    let or = |name, default| match env.has(name) {
        true => env.number(name),
        false => Ok(default),
    };
    let first = or("SLURM_ARRAY_TASK_MIN", 0)?;
    let step = or("SLURM_ARRAY_TASK_STEP", 1)?.max(1);
    let last = or(
        "SLURM_ARRAY_TASK_MAX",
        first.saturating_add(step * count.saturating_sub(1)),
    )?;
    let is_range = u64::from(last.saturating_sub(first)) / u64::from(step) + 1 == u64::from(count);
    match id.checked_sub(first) {
        Some(offset) if offset % step == 0 && is_range => {
            from_0("SLURM_ARRAY_TASK_ID", offset / step, count)
        }
        _ => Err(
            "auto: the tasks of the Slurm array have no numbers in a row; submit it with \
             --array=0-N, or give K/N instead"
                .into(),
        ),
    }
}

fn from_0(name: &str, index: u32, count: u32) -> Result<Shard, String> {
    if index >= count {
        return Err(format!(
            "auto: {name} is {index}, and there are {count} shards only, counted from 0"
        ));
    }
    Shard::new(index, count)
}

struct Variables<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl Variables<'_> {
    fn has(&self, name: &str) -> bool {
        (self.0)(name).is_some()
    }

    fn number(&self, name: &str) -> Result<u32, String> {
        let value = (self.0)(name).ok_or_else(|| format!("auto: {name} is not set"))?;
        let number = value.to_str().and_then(|text| text.parse().ok());
        number.ok_or_else(|| format!("auto: {name} is {value:?}, which is no number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(variables: &[(&str, &str)]) -> Result<Shard, String> {
        shard("auto", &|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn schedulers_say_which_shard_it_is() {
        let is = |index, count| Ok(Shard { index, count });
        let slurm = |id, count, min, max, step| {
            auto(&[
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_COUNT", count),
                ("SLURM_ARRAY_TASK_MIN", min),
                ("SLURM_ARRAY_TASK_MAX", max),
                ("SLURM_ARRAY_TASK_STEP", step),
            ])
        };
        assert_eq!(slurm("3", "4", "0", "3", "1"), is(3, 4));
        assert_eq!(slurm("4", "4", "1", "4", "1"), is(3, 4));
        assert_eq!(slurm("9", "3", "5", "9", "2"), is(2, 3));
        assert_eq!(
            auto(&[("JOB_COMPLETION_INDEX", "0"), ("HAUL_SHARDS", "8")]),
            is(0, 8)
        );
        assert_eq!(
            auto(&[("NOMAD_ALLOC_INDEX", "7"), ("NOMAD_GROUP_COUNT", "8")]),
            is(7, 8)
        );
        let list = slurm("7", "3", "1", "9", "1").unwrap_err();
        assert!(list.contains("in a row"), "{list}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let none = auto(&[]).unwrap_err();
        assert!(none.contains("give K/N"), "{none}");
        let no_count = auto(&[("JOB_COMPLETION_INDEX", "0")]).unwrap_err();
        assert!(no_count.contains("HAUL_SHARDS is not set"), "{no_count}");
        let beyond = auto(&[("NOMAD_ALLOC_INDEX", "8"), ("NOMAD_GROUP_COUNT", "8")]);
        assert!(beyond.unwrap_err().contains("8 shards only"));
        let odd = auto(&[("JOB_COMPLETION_INDEX", "x"), ("HAUL_SHARDS", "8")]);
        assert!(odd.unwrap_err().contains("no number"));
    }
}
