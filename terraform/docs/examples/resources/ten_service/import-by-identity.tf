import {
  to = ten_service.web
  identity = {
    name = "web"
  }
}
