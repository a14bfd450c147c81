import {
  to = ten_token.ci
  identity = {
    id = "0123456789ab"
  }
}
