//! ARP: the replies of the gateway, and hosts that use its address.

use super::*;

#[test]
fn answers_requests_and_probes() {
    for sender in [HOST4, Ipv4Addr::UNSPECIFIED] {
        for padding in [0, 18] {
            let mut request = arp(Arp::REQUEST, (HOST, sender), GATEWAY4);
            request.resize(request.len() + padding, 0);
            let reply = emitted(&request);
            assert_eq!(reply.len(), request.len());
            assert_eq!(reply[..6], HOST.0);
            let reply = ArpPacket::new(&reply[14..]).unwrap();
            assert_eq!(reply.get_operation(), ArpOperations::Reply);
            assert_eq!(reply.get_hardware_type(), ArpHardwareTypes::Ethernet);
            assert_eq!((reply.get_hw_addr_len(), reply.get_proto_addr_len()), (6, 4));
            assert_eq!(reply.get_sender_hw_addr().octets(), GATEWAY.0);
            assert_eq!(reply.get_sender_proto_addr(), GATEWAY4);
            assert_eq!(reply.get_target_hw_addr().octets(), HOST.0);
            assert_eq!(reply.get_target_proto_addr(), sender);
        }
    }
}

#[test]
fn ignores_requests_for_other_addresses() {
    assert_eq!(answer(&arp(Arp::REQUEST, (HOST, HOST4), OTHER4)), None);
    assert_eq!(answer(&arp(Arp::REPLY, (HOST, HOST4), GATEWAY4)), None);
    assert_eq!(answer(&arp(Arp::REQUEST, (HOST, HOST4), GATEWAY4)[..41]), None);
}

#[test]
fn rejects_gateway_address_as_arp_sender() {
    for operation in [Arp::REQUEST, Arp::REPLY, 3, 9] {
        let frame = arp(operation, (HOST, GATEWAY4), GATEWAY4);
        assert_eq!(claim(&frame), Some(Claim::ArpAddress(GATEWAY4)));
        let to_one = [&OTHER.0[..], &arp(operation, (HOST, GATEWAY4), OTHER4)[6..]].concat();
        assert_eq!(claim(&to_one), Some(Claim::ArpAddress(GATEWAY4)));
    }
    assert_eq!(claim(&arp(Arp::REPLY, (GATEWAY, HOST4), OTHER4)), Some(Claim::ArpMac));
    assert_eq!(claim(&arp(Arp::REQUEST, (HOST, HOST4), GATEWAY4)), None);
    assert_eq!(claim(&arp(Arp::REQUEST, (HOST, HOST4), HOST4)), None, "an announcement of its own address");
    assert_eq!(claim(&arp(Arp::REQUEST, (HOST, Ipv4Addr::UNSPECIFIED), GATEWAY4)), None, "a probe");
}

#[test]
fn inspects_priority_tagged_frames_but_not_vlans() {
    let frame = arp(Arp::REPLY, (HOST, GATEWAY4), OTHER4);
    for tpid in [EtherType::C_TAG, EtherType::S_TAG] {
        let once = tagged(&frame, tpid, 0);
        assert_eq!(claim(&once), Some(Claim::ArpAddress(GATEWAY4)));
        assert_eq!(claim(&tagged(&once, EtherType::C_TAG, 0)), Some(Claim::ArpAddress(GATEWAY4)));
        assert_eq!(claim(&tagged(&frame, tpid, 5)), None);
    }
    let request = tagged(&arp(Arp::REQUEST, (HOST, HOST4), GATEWAY4), EtherType::C_TAG, 0);
    let reply = emitted(&request);
    assert_eq!(reply[12..18], request[12..18], "the tag stays");
    assert_eq!(ArpPacket::new(&reply[18..]).unwrap().get_operation(), ArpOperations::Reply);
}
