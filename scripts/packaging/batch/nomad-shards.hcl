# One package by several allocations of each dispatched job, each of which brings its share into the one folder, on a
# volume that all clients mount (CSI, or a host volume on NFS, CephFS or Lustre). An allocation that is lost is made anew
# with its index, and goes on where it was.
#
#   nomad job run -var nodes=8 nomad-shards.hcl
#   echo 'https://get.massive.app/LINK_ID?secret=SECRET' | nomad job dispatch -meta folder=dailies-14 haul-shards -
#
# The payload is the link. It stays out of arguments and logs, but who may read the job may read it (ACL `read-job`).
variable "nodes" {
  type    = number
  default = 8
}

job "haul-shards" {
  type = "batch"

  parameterized {
    payload       = "required"
    meta_required = ["folder"]
  }

  group "get" {
    count = var.nodes

    # A client each: what one network card carries is the limit.
    constraint {
      operator = "distinct_hosts"
      value    = "true"
    }

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
        args    = ["get", "@${NOMAD_TASK_DIR}/link", "/data/${NOMAD_META_folder}", "--shard", "auto", "--json"]
      }

      # Which share it is, Nomad says by NOMAD_ALLOC_INDEX; of how many, only this file.
      env {
        NOMAD_GROUP_COUNT = var.nodes
        HAUL_STATE_DIR    = "/data/.haul"
      }

      volume_mount {
        volume      = "data"
        destination = "/data"
      }

      # SIGTERM pauses and saves, which takes a second or so.
      kill_signal  = "SIGTERM"
      kill_timeout = "30s"

      resources {
        cpu    = 1000
        memory = 256
      }
    }
  }
}
