"""Exchanges: OpenRTB 2.6 as Prebid.js and Prebid Server speak it, answered by the same g as every other request."""
