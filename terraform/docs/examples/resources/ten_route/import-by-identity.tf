import {
  to = ten_route.shop
  identity = {
    name = "shop"
  }
}
