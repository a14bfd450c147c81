import {
  to = ten_fleet.main
  identity = {
    service = "api"
    name    = "main"
  }
}
