import {
  to = ten_instance.canary
  identity = {
    service = "notes"
    id      = "canary"
  }
}
