# One package per dispatched job: `haul get` runs until every file is in place. An allocation that is lost is made
# anew, and goes on where the old one was: what is remembered lies on the volume beside the files.
#
#   nomad job run nomad.hcl
#   echo 'https://get.massive.app/LINK_ID?secret=SECRET' | nomad job dispatch -meta folder=dailies-14 haul-get -
#
# The payload is the link. It stays out of arguments and logs, but who may read the job may read it (ACL `read-job`).
# For a package with a password, or a stricter house, put both into a Nomad variable at nomad/jobs/haul-get, which
# dispatched jobs may read, and write them with `template` blocks into ${NOMAD_SECRETS_DIR}.
job "haul-get" {
  type = "batch"

  parameterized {
    payload       = "required"
    meta_required = ["folder"]
  }

  group "get" {
    # A host volume of the clients' configuration, or a CSI volume; where every client can mount it, any can go on.
    volume "data" {
      type   = "host"
      source = "media"
    }

    # Faults of the network are retried inside; these are for what ends the process.
    restart {
      attempts = 10
      interval = "24h"
      delay    = "15s"
      mode     = "fail"
    }

    reschedule {
      attempts       = 10
      interval       = "24h"
      delay          = "30s"
      delay_function = "exponential"
      max_delay      = "10m"
      unlimited      = false
    }

    task "haul" {
      driver = "exec"

      dispatch_payload {
        file = "link"
      }

      config {
        command = "/usr/bin/haul"
        args    = ["get", "@${NOMAD_TASK_DIR}/link", "/data/${NOMAD_META_folder}", "--json"]
      }

      env {
        HAUL_STATE_DIR = "/data/.haul"
      }

      volume_mount {
        volume      = "data"
        destination = "/data"
      }

      # SIGTERM pauses and saves, which takes a second or so.
      kill_signal  = "SIGTERM"
      kill_timeout = "30s"

      resources {
        cpu    = 250
        memory = 256
      }
    }
  }
}
