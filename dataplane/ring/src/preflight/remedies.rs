//! What to do about a failed check: in a shell, in a systemd unit, in a container.

use super::Remedy;

pub(super) fn kernel() -> Remedy {
    Remedy {
        shell: "install a kernel of 6.1 or newer and reboot (Debian 12: apt install linux-image-amd64; \
                Ubuntu 22.04: apt install linux-generic-hwe-22.04; RHEL family: release 10)"
            .to_owned(),
        systemd: "ConditionKernelVersion=>=6.1 makes the unit skip quietly on older kernels; it cannot replace them".to_owned(),
        container: "a container uses the host's kernel: update the host".to_owned(),
    }
}

pub(super) fn newer_kernel() -> Remedy {
    Remedy {
        shell: "nothing to do; a kernel of 6.12 or newer saves processor time under load"
            .to_owned(),
        systemd: "nothing to do".to_owned(),
        container: "nothing to do in the container; update the host's kernel when convenient"
            .to_owned(),
    }
}

pub(super) fn sysctl() -> Remedy {
    Remedy {
        shell: "sysctl -w kernel.io_uring_disabled=0, and the same line in /etc/sysctl.d/50-fulcrum.conf; or keep 1 and \
                set kernel.io_uring_group to the group id of the fulcrum user"
            .to_owned(),
        systemd: "with kernel.io_uring_disabled=1: Group= (or SupplementaryGroups=) the group named by kernel.io_uring_group"
            .to_owned(),
        container: "set the sysctl on the host (it is not namespaced); with 1, run with --group-add of that group".to_owned(),
    }
}

pub(super) fn seccomp() -> Remedy {
    Remedy {
        shell: "see which filter applies: grep Seccomp /proc/self/status; start outside the sandbox that filters".to_owned(),
        systemd: "SystemCallFilter=@system-service @io-event io_uring_setup io_uring_enter io_uring_register".to_owned(),
        container: "docker/podman: --security-opt seccomp=fulcrum-seccomp.json (the default profile plus the three io_uring calls); \
                    Kubernetes: securityContext.seccompProfile {type: Localhost, localhostProfile: fulcrum-seccomp.json}"
            .to_owned(),
    }
}

pub(super) fn memlock(need: u64) -> Remedy {
    let kib = need.div_ceil(1024);
    Remedy {
        shell: format!(
            "ulimit -l {kib} (as root, or raise memlock in /etc/security/limits.conf); a restart within a second can \
                        meet memory not yet released: try again"
        ),
        systemd: format!("LimitMEMLOCK={need}"),
        container: format!(
            "docker/podman: --ulimit memlock={need}:{need}; Kubernetes: raise LimitMEMLOCK of the container runtime's unit"
        ),
    }
}

pub(super) fn open_files(need: u64) -> Remedy {
    Remedy {
        shell: format!(
            "ulimit -Hn {need} (as root, or raise nofile in /etc/security/limits.conf); fs.nr_open must not be below it"
        ),
        systemd: format!("LimitNOFILE={need}"),
        container: format!(
            "docker/podman: --ulimit nofile={need}:{need}; Kubernetes: raise LimitNOFILE of the container runtime's unit"
        ),
    }
}

pub(super) fn trial(locked: u64) -> Remedy {
    Remedy {
        shell: "mend the failed checks above first; ENOMEM means locked memory (ulimit -l), EPERM a filter or the sysctl, EINVAL an \
                old kernel"
            .to_owned(),
        systemd: format!("LimitMEMLOCK={locked} for each ring, SystemCallFilter=@system-service @io-event io_uring_setup \
                          io_uring_enter io_uring_register"),
        container: format!("--ulimit memlock={locked}:{locked} for each ring, and a seccomp profile that allows io_uring"),
    }
}
