// What a publisher's page loads: the core, the adapter for servers of one's own, and the consent modules.
import pbjs from "prebid.js";
import "prebid.js/modules/prebidServerBidAdapter";
import "prebid.js/modules/consentManagementTcf";
import "prebid.js/modules/consentManagementGpp";
import "prebid.js/modules/consentManagementUsp";
import "prebid.js/modules/tcfControl";

window.pbjs = pbjs;
pbjs.processQueue();
